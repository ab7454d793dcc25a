"""Parameters that are spread over processes: DTensors, as FSDP2 and tensor parallelism leave them.

The rest of the engine asks three questions. What is local? (`local.py`: plain tensors on the memory of
this rank's shards.) What has to be combined with whom? (`across.py`: the reductions of a graph, each
followed by its combination over ranks; `exchange.py`: the collectives that do it.) Who computes what
needs a whole tensor? (`owners.py`: one rank each; `transfer.py`: what travels there and back.) What ranks
have to decide alike is in `agreement.py`.
"""
