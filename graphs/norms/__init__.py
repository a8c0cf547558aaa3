"""BatchNormalization that exporters folded away: where it belongs, put back, and folded again."""
