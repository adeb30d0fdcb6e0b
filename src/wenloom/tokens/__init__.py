"""How text becomes numbers: tokenizers, token shards and training samples."""
