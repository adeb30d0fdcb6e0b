"""The compiled decoding step: C code (one unit, `step.c`), its compiler, and what it supports."""
