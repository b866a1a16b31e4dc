"""What a training run costs on given devices, on paper: memory, arithmetic, what is sent, time. No JAX."""
