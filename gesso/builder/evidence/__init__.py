"""What lets a stranger trust an image: bill of materials, provenance, signature; made, attached and verified."""
