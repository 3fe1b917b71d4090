"""A few lines that make node trees readable as code: sockets and plain values are both inputs."""

from __future__ import annotations

from typing import Any


class NodeBuilder:
    """Adds nodes to one tree, left to right, and links what it is given."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self._count = 0

    def add(self, kind: str, *inputs: Any, label: str = "", **settings: Any) -> Any:
        """Add a node of type ``kind``; ``inputs`` by position (None keeps the default), properties by name."""
        node = self.tree.nodes.new(kind)
        for name, value in settings.items():
            setattr(node, name, value)
        if label:
            node.label = label
            node.name = label
        node.location = (180 * (self._count // 4), -220 * (self._count % 4))
        self._count += 1
        enabled = [socket for socket in node.inputs if socket.enabled]
        for socket, value in zip(enabled, inputs, strict=False):
            self.feed(socket, value)
        return node

    def feed(self, socket: Any, value: Any) -> None:
        """Link ``value`` to ``socket`` when it is a socket or a node, else set it as the default."""
        if value is None:
            return
        if hasattr(value, "outputs"):
            value = next(out for out in value.outputs if out.enabled)
        if hasattr(value, "is_linked"):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value

    def math(self, operation: str, *inputs: Any, clamp: bool = False) -> Any:
        """A scalar Math node's output."""
        return self.add("ShaderNodeMath", *inputs, operation=operation, use_clamp=clamp).outputs[0]

    def product(self, first: Any, second: Any, label: str = "") -> Any:
        """A Mix node that multiplies two colors, to at most 1; its color is output 2."""
        node = self.add(
            "ShaderNodeMix", label=label, data_type="RGBA", blend_type="MULTIPLY", clamp_result=True
        )
        for index, value in ((0, 1.0), (6, first), (7, second)):
            self.feed(node.inputs[index], value)
        return node

    def vector(self, operation: str, *inputs: Any) -> Any:
        """A Vector Math node's output: the scalar one for dot products and lengths."""
        node = self.add("ShaderNodeVectorMath", operation=operation)
        by_order = [node.inputs[0], node.inputs[1], node.inputs[2]]
        if operation == "SCALE":
            by_order = [node.inputs[0], node.inputs["Scale"]]
        for socket, value in zip(by_order, inputs, strict=False):
            self.feed(socket, value)
        return node.outputs["Value" if operation in {"DOT_PRODUCT", "LENGTH", "DISTANCE"} else "Vector"]

    def xyz(self, x: Any, y: Any, z: Any) -> Any:
        """Combine three scalars into a vector."""
        return self.add("ShaderNodeCombineXYZ", x, y, z).outputs[0]
