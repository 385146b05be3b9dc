"""HTTP in front of the captioner: one picture in, one caption out."""
