"""``python -m services.tokenizer``: one tokenizer process."""

from services.tokenizer.app import app
from services.tokenizer.config import TokenizerConfig
from shared.service import Service, main

if __name__ == "__main__":
    main(Service("tokenizer", TokenizerConfig, app))
