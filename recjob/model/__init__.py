"""The paper's mathematics: torch and torchvision only, no files, no database."""
