"""HTTP in front of the captioner: one picture or clip in, one caption out."""
