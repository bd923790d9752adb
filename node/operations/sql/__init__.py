"""Operations on the SQL databases of spaces."""
