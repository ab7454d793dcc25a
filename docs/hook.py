"""What MkDocs calls: the pages that are made from the registry join those that are written."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from sitegen.everything import fill, navigation, pages


def on_config(config: Any) -> Any:
    """Fill in the sections of the navigation that have generated pages."""
    config.nav = navigation(config.nav)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for name, text in pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables in that a written page asks for."""
    return fill(markdown)
