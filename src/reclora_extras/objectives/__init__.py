"""Objectives beside clicks: preferences beside references (DPO, MRPO), and some that the adapter makes itself."""
