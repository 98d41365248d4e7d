"""Binary activations: how they round forward, what they pretend backward."""
