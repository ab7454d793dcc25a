"""A plan as source text, for whatever compiles a C: ops, layout, and what each pass and stage says.

What differs between targets is a dialect: how a function begins, how a chunk is walked, how a
reduction ends.
"""
