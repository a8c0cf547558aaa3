"""What exporters write, brought into one dialect (DESIGN.md section 3); `canonicalise.PASSES` lists the passes."""
