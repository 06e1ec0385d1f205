"""The commands of `warmstart`, one module each. `deploy.cli` imports a module when its command is called.

What a command needs before it can refuse is imported at the top of its module. TensorFlow, TFX, Beam and ML Metadata
come later, inside the functions: a mistake is answered, and `--help` shown, without waiting for them.
"""
