"""`weft bench`: what a step costs, against torch's and other implementations, in one run."""
