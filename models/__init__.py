"""Networks in PyTorch that neurosim ships trained weights for, and the scripts that train them."""
