"""The machine: files, devices, and stages of training that can be killed and resumed."""
