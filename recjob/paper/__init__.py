"""The paper's tables and figures, from a data folder and without a database."""
