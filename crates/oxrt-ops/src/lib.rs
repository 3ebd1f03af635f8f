//! One file per operator: schema, shape rule, reference evaluation, examples
