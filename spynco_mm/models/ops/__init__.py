"""The operations that the layers are made of. Layers say what is computed, operations say how.

Each file has one operation, in a readable form and a fast one. The rule: ``op(x, ..., fast=True)``
is ``op(x, ..., fast=False)`` up to rounding, in its values and in all its gradients. Operations
take tensors, not modules. When the fast form applies (which device, precision, compiler, sizes) is
decided in the file of the operation, and nowhere outside of this package. An operation that has one
form only has no ``fast``.

``torch.jit.trace`` and the export to ONNX record the readable forms, since those are what other
programs have fast operators for. Fast forms that go backward by hand have no second derivatives,
and say so.
"""
