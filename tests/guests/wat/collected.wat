;; Has a structure that is garbage collected, which is a feature that is off.
(module (type $pair (struct (field i32))) (memory (export "memory") 1)
  (func (export "_start") (drop (struct.new $pair (i32.const 1)))))
