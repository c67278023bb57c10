"""What a region can be given: phrase options, exemplar, control map, edit, concept, LoRA."""
