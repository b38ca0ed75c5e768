"""Adapter methods, one folder a method; each is a PEFT tuner."""
