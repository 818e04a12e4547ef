"""What runs in the hospital: takes studies in, screens them, writes the worklist. Never imports TensorFlow or Keras."""
