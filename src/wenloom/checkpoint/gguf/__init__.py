"""GGUF, the one-file format of llama.cpp, Ollama and LM Studio: read into a model folder, written from one."""
