;; A component of twenty instances.
(component
  (core module $one (func (export "run") (result i32) i32.const 0))
  (core instance $a (instantiate $one)) (core instance (instantiate $one)) (core instance (instantiate $one))
  (core instance (instantiate $one)) (core instance (instantiate $one)) (core instance (instantiate $one))
  (core instance (instantiate $one)) (core instance (instantiate $one)) (core instance (instantiate $one))
  (core instance (instantiate $one)) (core instance (instantiate $one)) (core instance (instantiate $one))
  (core instance (instantiate $one)) (core instance (instantiate $one)) (core instance (instantiate $one))
  (core instance (instantiate $one)) (core instance (instantiate $one)) (core instance (instantiate $one))
  (core instance (instantiate $one)) (core instance (instantiate $one))
  (func $run (result (result)) (canon lift (core func $a "run")))
  (instance $cli (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $cli)))
