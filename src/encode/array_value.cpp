/*
 * Arrays: a value for each element, by the mapping of the elements' type, and the array's dimensions where they are not
 * just its length. Elements are converted one by one, so that memory is what they take on the wire, and no more.
 */
#include "value.h"

extern "C" {
#include "utils/arrayaccess.h"
}

using siphon::ValueKind;
using siphon::Wire;
using siphon::WireBuffer;

/* An array with one dimension that begins at 1, as nearly all do, has nothing to say of it. So has one without any. */
static bool
is_plain(const ArrayType *array)
{
	return ARR_NDIM(array) == 0 || (ARR_NDIM(array) == 1 && ARR_LBOUND(array)[0] == 1);
}

static void
put_dimensions(WireBuffer *out, const ArrayType *array)
{
	buffer_reserve(out, siphon::kDimensionMax * MAXDIM);
	Wire wire(out);
	for (int i = 0; i < ARR_NDIM(array); i++)
		wire.dimension(static_cast<uint32>(ARR_DIMS(array)[i]), ARR_LBOUND(array)[i]);
	wire.commit();
}

Value
array_value_from_datum(TypeMapping *type, Datum datum)
{
	const ArrayType *array = DatumGetArrayTypeP(datum);
	TypeMapping *element = type->element;
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context;
	WireBuffer message;
	array_iter iter;
	int count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	Value value;

	/* The stack is as deep as domains over arrays of domains over arrays go. */
	check_stack_depth();
	buffer_init(&message, 256);
	context = AllocSetContextCreate(caller, "siphon array element", ALLOCSET_SMALL_SIZES);
	array_iter_setup(&iter, reinterpret_cast<AnyArrayType *>(const_cast<ArrayType *>(array)));
	for (int i = 0; i < count; i++)
	{
		bool isnull;
		Datum item = array_iter_next(&iter, &isnull, i, element->length, element->by_value, element->align);

		MemoryContextSwitchTo(context);
		value = value_from_datum(element, item, isnull);
		buffer_reserve(&message, value_bound(value));
		Wire wire(&message);
		value_write(&wire, siphon::field::kListValues, value);
		wire.commit();
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	if (!is_plain(array))
		put_dimensions(&message, array);
	value.kind = ValueKind::List;
	value.bytes.data = message.data;
	value.bytes.length = message.size;
	return value;
}
