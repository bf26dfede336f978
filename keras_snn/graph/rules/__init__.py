"""The rules: what each Keras layer and operation becomes as nodes of the graph.

A rule is a function `lower(layer, *inputs, emit)`: it gets the layer and the nodes that it is applied to,
emits nodes through `emit`, and returns the last of them. What it cannot translate it refuses with `Refusal`.
Each rule brings examples, on which all laws of the package are tested. A layer is known in its rule and
nowhere else. Importing this package registers the rules.
"""

# In the order in which the table of what converts shows them.
# isort: off
from keras_snn.graph.rules import activations as activations
from keras_snn.graph.rules import linear as linear
from keras_snn.graph.rules import scaling as scaling
from keras_snn.graph.rules import pooling as pooling
from keras_snn.graph.rules import moving as moving
from keras_snn.graph.rules import merging as merging
from keras_snn.graph.rules import wrappers as wrappers
from keras_snn.graph.rules import python_code as python_code
from keras_snn.graph.rules import training_only as training_only
from keras_snn.graph.rules import refused as refused
from keras_snn.graph.rules import operations as operations
from keras_snn.graph.rules import moving_operations as moving_operations
from keras_snn.graph.rules import taking_operations as taking_operations
from keras_snn.graph.rules import window_operations as window_operations
from keras_snn.graph.rules import spiking_layers as spiking_layers
