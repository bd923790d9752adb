;; Reads the first byte behind its memory.
(module (memory (export "memory") 1)
  (func (export "_start") (drop (i32.load8_u (i32.const 65536)))))
