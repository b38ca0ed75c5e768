from hypothesis import settings

# Machines differ in speed, and a test's verdict must not: no deadline, and the same examples every time.
settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("reproducible")
