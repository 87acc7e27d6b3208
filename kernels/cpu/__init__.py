"""The operations in C++, for the processor that is here: one source, compiled once per instruction set."""
