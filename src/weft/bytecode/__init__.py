"""What a function does with what it is given, read from its bytecode: all branches are followed.

A value is the set of its possible origins: an argument, a constant, a dict that was built at some
place, a function whose code can be followed, something that is surely no dict, or anything.
"""

from weft.bytecode import containers, opcodes  # noqa: F401  their handlers
from weft.bytecode.flow import step
from weft.bytecode.run import Run, TooLong
from weft.bytecode.values import NO_DICT, Function, Origin, Value, arg

__all__ = ["NO_DICT", "Function", "Origin", "Run", "TooLong", "Value", "arg", "step"]
