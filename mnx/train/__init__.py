"""Training one network: the step as a graph, the engines that run it, the loop around it."""
