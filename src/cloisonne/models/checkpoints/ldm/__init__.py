"""Single files in LDM layout: names, shapes, what the network predicts."""
