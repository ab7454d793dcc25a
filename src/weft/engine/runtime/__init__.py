"""The path of a step: members -> active set -> scalar groups -> cohorts -> schedule -> launches.

In: groups, states, grads. Out: a step, or a `Fallback` before anything is written. It knows a backend by
`backends.base` alone.
"""
