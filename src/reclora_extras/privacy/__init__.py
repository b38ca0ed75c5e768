"""Privacy: an adapter learns from users' gradients in noise, and its log says how much of them it tells."""
