"""What is computed: the decoder-only Transformer, from configuration to logits."""
