"""Networks added to a base model: T2I-Adapter, ControlNet, IP-Adapter, Paint by Example, CLIPSeg."""
