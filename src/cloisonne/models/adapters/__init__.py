"""Networks beside the base: T2I-Adapter, ControlNet, IP-Adapter, Paint by Example, CLIPSeg."""
