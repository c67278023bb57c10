"""Single files in LDM layout: tensor names, configurations from shapes, and prediction types."""
