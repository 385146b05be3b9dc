"""Small expert models that say what is in a picture, and the grammar that turns their facts into sentences."""
