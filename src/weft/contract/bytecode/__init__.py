"""What a function does with what it is given, read from its bytecode: all branches are followed.

A value is the set of its possible origins: an argument, a constant, a dict that was built at some
place, a function whose code can be followed, something that is surely no dict, or anything.
"""

from weft.contract.bytecode import containers, opcodes  # noqa: F401  their handlers
from weft.contract.bytecode.flow import step
from weft.contract.bytecode.run import Run, TooLong
from weft.contract.bytecode.values import NO_DICT, Function, Origin, Value, arg

__all__ = ["NO_DICT", "Function", "Origin", "Run", "TooLong", "Value", "arg", "step"]
