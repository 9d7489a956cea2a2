"""Exercises are called "Exercise 06.1: title"; sphinx-exercise alone would write "Exercise (06.1: title)"."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_exercise.nodes import exercise_node, solution_node


class BareTitles(SphinxPostTransform):
    """Takes away the brackets that sphinx-exercise puts around a title of the author's."""

    default_priority = 22  # sphinx-exercise makes the titles at 20 and 21

    def run(self, **kwargs: object) -> None:
        for kind in (exercise_node, solution_node):
            for node in self.document.findall(kind):
                texts = [text for text in node.children[0].findall(nodes.Text) if text in (" (", ")")]
                for text in texts:
                    text.parent.replace(text, nodes.Text(text.strip("()")))


def setup(app: Sphinx) -> dict:
    app.add_post_transform(BareTitles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
