"""The test oracle: every figure of docs/definitions.md, computed the slow and obvious way.

The law of this folder: NumPy only (float64), plain loops over terms, no import of trainobs, TensorFlow
or Keras, which only test_keras_layers.py imports, to compare the problems with Keras' layers. It is
written from docs/definitions.md alone, so that agreement with the product means something.
"""
