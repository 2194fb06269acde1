//! What ports promise, tried from outside.
