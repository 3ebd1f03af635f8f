//! Profiles, candidate choice, memory planning: graph to plan
