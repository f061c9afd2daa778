"""The HTML report: one file without scripts or links to elsewhere, readable without its style sheet too.

element.py makes tags, scale.py axes, charts.py drawings; layer.py, model.py and page.py say what is on the page.
"""

from bninspect.reports.html.page import render

__all__ = ["render"]
