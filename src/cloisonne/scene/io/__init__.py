"""Files that carry scenes and images: JSON, PNG metadata, other tools' formats, image references."""
