"""The encoder-free vision-language models and how they are trained; the only home of torch."""
