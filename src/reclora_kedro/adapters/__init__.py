"""Adapter methods, one folder per method; each is a PEFT tuner."""
