"""The builder's upper floor: what leaves the builder's machine, and what is done to instances far away."""
