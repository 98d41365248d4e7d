"""Models, one a file. A model is an ``nn.Module`` whose activations are ``BinaryActivation``."""
