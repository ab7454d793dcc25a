"""A plugin of pytest: tests that ask for no device get the played one."""

import torch

torch.set_default_device("cuda")
